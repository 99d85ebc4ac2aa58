"""PostgreSQL: connections, migrations, encryption, and the control tables."""
