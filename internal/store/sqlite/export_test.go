package sqlite

// The engine's connection strings, as Open uses them.
var (
	WriteDSN = func(path string) string { return dsn(path, "immediate", writerCache, "query_only(0)") }
	ReadDSN  = func(path string) string { return dsn(path, "deferred", readerCache, "query_only(1)") }
)

// Dialect is the engine's dialect.
type Dialect = dialect
