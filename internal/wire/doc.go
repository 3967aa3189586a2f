// Package wire writes errors in the shape every interface of the product has but
// OAuth's own: {"code","message","details"} (R33). It owns the one table from a
// kind of failure to an HTTP status.
package wire
