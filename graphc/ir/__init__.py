"""The tensor graph: pure, static, open to new ops. What an op means stands in `graphc.ops`; how it runs, in `graphc.lower`."""
