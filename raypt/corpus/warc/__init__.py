"""Web archives: WARC, WET and ARC files, record by record, whatever happened to them."""
