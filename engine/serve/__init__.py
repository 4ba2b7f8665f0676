"""The resident services: they keep what is slow to make, and answer questions until the pipe closes.

    loop     one question after another, whatever becomes of each; for every service
    answers  the files of answers, the newest of which are kept
    vision   backbones and the tokens of the last pictures; torch
    search   the index of a project; faiss

``loop`` and ``answers`` know neither torch nor faiss: one native stack a process.
"""
