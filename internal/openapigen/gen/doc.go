// Package gen receives the definitions that openapi-gen writes; they are not kept in git.
package gen
