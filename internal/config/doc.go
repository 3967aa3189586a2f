// Package config reads the settings (R43) from flags, the environment and a .env
// file, in this order of precedence, and refuses what cannot work or is not safe.
// One table names every setting, its default and its meaning; all else follows
// from it.
package config
