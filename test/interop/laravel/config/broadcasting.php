<?php

// As it is in a new application: the connection `push` is that of the package.
return ['default' => env('BROADCAST_DRIVER', 'null'), 'connections' => []];
