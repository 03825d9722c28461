"""What a comparison shows: statistics, sentences, tables, figures, the page."""
