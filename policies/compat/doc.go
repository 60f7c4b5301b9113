// Package compat holds no code: its folders are adapters that run policy modules written for other hosts, unmodified.
// DESIGN.md says what of each ABI is supported, and what is refused with which message.
package compat
