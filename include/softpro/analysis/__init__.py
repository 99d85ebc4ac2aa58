"""Show what mappings would do with the stored records, and which fields they miss."""
