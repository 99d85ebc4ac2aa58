"""Call SoftPro 360. Only this package knows the vendor's names; the contract is docs/softpro-api.md."""
