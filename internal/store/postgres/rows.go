package postgres

import (
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"

	"git.sentryagent.ai/sentryagent-idp/internal/store"
)

// Rows binds each column as one array: the statement stays the same, and prepared,
// however many rows there are.
func (dialect) Rows(columns []store.Column) (query string, args []any) {
	arrays := make([]string, len(columns))
	for i, c := range columns {
		arrays[i] = "$" + strconv.Itoa(i+1) + "::" + c.Type + "[]"
		args = append(args, array(c))
	}
	return "SELECT * FROM unnest(" + strings.Join(arrays, ", ") + ")", args
}

// array gives a column's values as a slice of their own type, which the driver encodes
// without reflection.
func array(c store.Column) any {
	switch c.Type {
	case "bigint":
		return typed[int64](c.Values)
	case "text":
		return typed[string](c.Values)
	case "bytea":
		return typed[[]byte](c.Values)
	case "timestamptz":
		return typed[time.Time](c.Values)
	case "uuid":
		ids := make(pgtype.FlatArray[pgtype.UUID], len(c.Values))
		for i, v := range c.Values {
			id, ok := v.(uuid.UUID)
			ids[i] = pgtype.UUID{Bytes: id, Valid: ok}
		}
		return ids
	}
	return c.Values
}

// typed gives the values as T where all of them are, and as they are where one is not,
// such as where it is NULL.
func typed[T any](values []any) any {
	all := make(pgtype.FlatArray[T], len(values))
	for i, v := range values {
		one, ok := v.(T)
		if !ok {
			return values
		}
		all[i] = one
	}
	return all
}
