"""Pipeline parallelism: a model's layers cut over ranks."""
