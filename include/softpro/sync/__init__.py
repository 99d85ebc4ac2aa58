"""SoftPro → ROI: extract, land, transform, load."""
