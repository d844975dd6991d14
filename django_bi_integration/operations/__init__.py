"""Is it working? System checks, ``bi_doctor`` and what they look at."""
