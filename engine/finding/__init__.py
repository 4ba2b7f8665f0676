"""What can be found by features: neighbours, copies, oddities, maps, parts, and why.

    neighbours  the table of nearest neighbours that everything here shares
    index       makes it, exactly or by a graph, and keeps the graph
    duplicates  copies of the same picture, and which to keep
    oddities    pictures apart from all others, doubtful labels, typical pictures
    projections  principal components, t-SNE and UMAP: arrays in, arrays out
    faithfulness  how much of the features' neighbourhoods a map keeps
    maps        maps of all pictures: made, gone on with, added to, laid on another
    class_maps  one position a class
    clusters    groups of pictures that are alike
    charts      maps and clusters as pictures

NumPy arrays throughout; faiss, openTSNE, UMAP and scikit-learn are loaded where they are used. Nothing here loads
torch: a process holds one native stack.
"""
