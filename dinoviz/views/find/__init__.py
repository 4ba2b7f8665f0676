"""Find: pictures like others, parts, copies, outliers, doubtful labels."""
