"""The sub-commands of `vidmamba`: plain functions, whose signatures are their options."""
