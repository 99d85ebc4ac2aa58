"""Send edits of `roi` to SoftPro, after merging them with SoftPro's changes. See docs/design/write-back.md."""
