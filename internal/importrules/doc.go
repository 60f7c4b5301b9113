// Package importrules holds no code: its test keeps imports flowing one way, and says why.
package importrules
