<?php

declare(strict_types=1);

use Illuminate\Contracts\Debug\ExceptionHandler;
use Illuminate\Contracts\Http\Kernel as KernelContract;
use Illuminate\Foundation\Application;
use Illuminate\Foundation\Exceptions\Handler;

/** As `laravel new` makes it, with what this application has of it. */
$app = new Application(dirname(__DIR__));
$app->singleton(KernelContract::class, App\Kernel::class);
$app->singleton(ExceptionHandler::class, Handler::class);
return $app;
