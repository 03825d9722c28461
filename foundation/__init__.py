"""What every room stands on: errors in the user's words, atomic files, presets, progress bars."""
