"""The durable unit: Parquet tables, appended and read."""
