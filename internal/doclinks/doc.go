// Package doclinks holds tests of the links, the code and the commands in the Markdown files.
package doclinks
