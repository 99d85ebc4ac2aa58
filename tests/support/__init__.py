"""Share helpers between the test folders: a database server, the sandbox as a process, the product between both."""
