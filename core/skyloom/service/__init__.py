"""What users write: services, their rpc methods, and the tools a service has."""
