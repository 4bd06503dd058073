"""Images of the ISIC archive, as its own tools and its challenges hand them out."""
