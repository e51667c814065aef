"""What every report is made of: self-contained HTML and inline charts."""
