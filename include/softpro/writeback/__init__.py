"""ROI → SoftPro: what people changed here, agreed on with what SoftPro changed, and sent there."""
