"""How soon pods are served again after a failure of the API server, of etcd or of the leading controller."""
