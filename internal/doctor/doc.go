// Package doctor looks at an installation as its operator would with much time: the
// settings, the files, the database and what the record says of it, and tells what is not
// fit for production (R39). It changes nothing. It is not the health check, which says
// whether a server can serve at this moment.
package doctor
