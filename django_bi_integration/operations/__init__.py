"""Is it working? System checks, ``bi_doctor``, and the probes that both use."""
