"""Extract records from SoftPro, land them in `raw`, transform them, and load them into `roi`."""
