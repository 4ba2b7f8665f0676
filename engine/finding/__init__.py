"""What can be found by features: neighbours, copies, oddities, maps, parts, and why.

    neighbours  the table of nearest neighbours that everything here shares
    index       makes it, exactly or by a graph, and keeps the graph

NumPy arrays throughout; faiss, openTSNE, UMAP and scikit-learn are loaded where they are used. Nothing here loads
torch: a process holds one native stack.
"""
