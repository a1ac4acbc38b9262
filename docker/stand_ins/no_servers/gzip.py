"""What prometheus_client (0.26) imports for answers that are compressed, which ours are not."""
