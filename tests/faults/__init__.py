"""Break the product's promises on purpose: kill processes, lose responses, restart servers."""
