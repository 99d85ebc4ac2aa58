"""SoftPro 360 as seen from here; the one package that knows the vendor's names. Its contract: docs/softpro-api.md."""
