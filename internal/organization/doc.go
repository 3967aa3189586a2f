// Package organization holds the tenants: everything else belongs to exactly
// one of them and is seen and changed inside it alone.
package organization
