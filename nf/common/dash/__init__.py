"""Media presentation descriptions read (ISO/IEC 23009-1 §5): their segments, and when each can be fetched."""
