"""What can be found by features: neighbours, copies, oddities, maps, parts, and why.

    vectors     brought to length 1, block by block; rows without themselves
    labels      as numbers
    faiss_files  its indexes on the disk, and its threads
    neighbours  the table of nearest neighbours that everything here shares
    index       makes it, exactly or by a graph, and keeps the graph
    searching   a set opened for searching by any vector
    parts       pictures that hold a part of another picture, and where
    explain     which parts of two pictures have a likeness in each other
    duplicates  copies of the same picture, and which to keep
    oddities    pictures apart from all others, doubtful labels, typical pictures
    projections  principal components, t-SNE and UMAP: arrays in, arrays out
    faithfulness  how much of the features' neighbourhoods a map keeps
    map_files   maps as they are kept; cluster_files and class_map_files likewise: light enough for the window
    aligning    maps laid on each other, and what moved
    maps        maps of all pictures: made, and gone on with
    placing     new pictures added to a map
    class_maps  one position a class
    clusters    groups of pictures that are alike
    charts      maps and clusters as pictures

NumPy arrays throughout; faiss, openTSNE, UMAP and scikit-learn are loaded where they are used. Nothing here loads
torch: a process holds one native stack.
"""
