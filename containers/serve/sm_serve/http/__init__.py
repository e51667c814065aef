"""HTTP: connections, the protocol, middleware, routes, the OpenAPI document."""
