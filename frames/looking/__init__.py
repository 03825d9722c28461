"""What a person sees of a store: figures, tables, contact sheets, exported clips, damage."""
