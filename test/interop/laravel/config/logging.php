<?php

return ['default' => 'errorlog', 'channels' => ['errorlog' => ['driver' => 'errorlog'], 'emergency' => ['path' => 'php://stderr']]];
