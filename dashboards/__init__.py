"""Records to tables, figures and pages."""
