"""Keep SoftPro 360 and ROI Systems data in step. Start reading in `softpro.runs.pipeline`."""
