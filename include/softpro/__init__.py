"""Keeps an organization's SoftPro 360 data and its ROI Systems data in step. Start reading in `pipeline`."""
