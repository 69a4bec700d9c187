// Package doclinks holds a test of the links in the repository's Markdown files.
package doclinks
