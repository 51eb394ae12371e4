"""What several commands share: methods, tuning, results files, looks of figures."""
