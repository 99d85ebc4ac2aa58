"""What several folders of tests share: a database server, the sandbox as a process, the product around both."""
