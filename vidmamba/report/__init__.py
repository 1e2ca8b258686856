"""What a person looks at: HTML pages and ribbons."""
