"""Classifications of protein domains: what their tables say of a domain, each form in a module of its own."""
