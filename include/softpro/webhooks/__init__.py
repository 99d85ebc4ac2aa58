"""SoftPro's webhooks: events come in, and what they hint at is fetched."""
