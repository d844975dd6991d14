"""A small career-centre portal: a host project's app, fed by the signals of django_bi_integration."""
