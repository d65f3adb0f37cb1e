"""What OpenAPI says of each route, and the document made of it."""
