package postgres

// Dialect is the engine's dialect.
type Dialect = dialect

// Configure is how a store's connections are made.
var Configure = configure
