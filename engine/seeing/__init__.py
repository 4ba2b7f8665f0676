"""What a backbone sees in a picture: attention, masks, features and colours of patches, and drawings of them.

Without torch:
    grid            how the patches of a network lie on a picture, and back to its pixels
    masks           the patches that hold most of the attention; contours and areas
    patches         principal components of patch features; the subject told from its ground
    palette         all that turns features into colours, kept in a file
    matches         which patches are alike, within and across pictures
    drawing         maps, masks and sheets as pictures; words on pictures; PNG
    links           marked places, and lines between two pictures
    probe_files     the looks that a training run kept, read
    files           the files of each picture: their names, what became of them

With torch:
    views           how a picture is shown to a network
    attention       what a token looks at, per head and layer; rollout through all layers
    patch_features  the features of each patch, after any layer
    tokens          all that one pass of a picture leaves, from which both are slices
    embed           features of very many pictures, in batches
    showings        a part of a picture, shown several times so that it can be found
    probes          the looks that a training run keeps of a few pictures
    look            attention and masks of a list of files; look_patches and look_matches for patches:
                    what the command line calls

Where torch ends are NumPy arrays, height before width. Pictures are uint8 RGB. Nothing here knows of projects,
messages or windows.
"""
